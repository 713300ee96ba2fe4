"""Doors for people and scripts: thin, over the services."""
