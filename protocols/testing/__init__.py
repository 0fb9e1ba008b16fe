"""A broker for tests: in a thread, or in the process without sockets; for pytest see protocols/pytest_plugin.py."""
