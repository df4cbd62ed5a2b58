"""The agent's networks: torso (observation to features), core (memory) and heads (policy and value)."""
