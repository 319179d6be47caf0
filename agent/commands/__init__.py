"""What the subcommands of `voice-agent` do; `agent.cli` holds their options."""
