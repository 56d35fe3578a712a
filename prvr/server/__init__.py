"""An index over HTTP: a REST interface and a web page. Both search the same index as the command line."""
