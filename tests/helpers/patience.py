"""How long tests wait for what must come.

Not how fast it must be: a machine that is busy with something else must not fail a test.
"""

PATIENCE_S = 60.0
