"""What hears and answers: the engine contract and the engines behind it."""
