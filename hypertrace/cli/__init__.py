"""Command `hypertrace`; packages bring its subcommands by entry point.

- `command`: what a package implements to bring one;
- `terminal`: what a command prints;
- `entry_points`: the commands that the installed packages bring;
- `main`: the program.

Imports the standard library and the core alone.
"""
