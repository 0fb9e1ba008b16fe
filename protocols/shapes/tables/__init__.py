"""AWS's models as plain tables, one module a service, written by `protocols.shapes.generate`."""
