"""The tools. Only this package knows click, standard input and output, and exit codes."""
