"""Evaluation of a trained agent: whole episodes without learning, their returns, and videos of them."""
