"""The agent's networks: torso (observation to features), core (memory), and policy and value heads."""
