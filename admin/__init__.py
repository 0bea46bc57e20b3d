"""Every way in for people and other systems."""
