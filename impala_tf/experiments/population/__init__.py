"""Population-based training (Appendix F): members train side by side, copy better ones, and change their settings."""
