"""To be read in order: see the package README."""
