"""The papers' experiments: what each table compares, how its rows are run, and how it is written down."""
