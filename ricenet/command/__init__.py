"""How a stage is run: its command line, configs and exit codes; worker processes, atomic writes and locks."""
