"""Joins the rooms: connect, look at both sides, plan, execute."""
