"""How long tests wait for what must come.

Not how fast it must be: a machine that is busy with something else must not fail a test. The
embedded engine's process stands back: beside busy ones it has a twentieth of a core.
"""

PATIENCE_S = 180.0
