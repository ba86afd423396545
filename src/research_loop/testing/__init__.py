"""Tools for testing research-loop and what is built on it: real servers and files on this machine."""
