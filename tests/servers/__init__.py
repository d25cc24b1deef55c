"""Small mail servers in this process, for the tests and the demonstration. They share no code with the program."""
