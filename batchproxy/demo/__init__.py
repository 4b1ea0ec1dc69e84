"""The demo: real models, real traffic through a real proxy, and a table. Nothing of the proxy itself lives here."""
