"""An async Python client for robots, kiosks and scripts."""
