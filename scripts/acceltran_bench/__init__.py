"""Tables and plots of `make bench`."""
