"""Turn-taking: what a turn event means and how long to wait."""
