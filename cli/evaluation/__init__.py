"""What `flywheel eval` makes of a file that says what is measured."""
