"""An index over HTTP: a REST interface, and a page for people; both ask the same index as the command line."""
