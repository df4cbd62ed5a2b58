"""Reverb server configurations (`ReverbServerConfig` textprotos)."""
