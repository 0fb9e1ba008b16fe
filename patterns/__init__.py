"""What a consumer or producer needs on top of the services, ready to use against any AWS endpoint."""
