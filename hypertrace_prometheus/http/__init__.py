"""HTTP server: connections, TLS, access and messages; what it serves is an argument."""
