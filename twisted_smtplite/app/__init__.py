"""The application: the command line, the service, the log. The only files that choose parts and wire them together."""
