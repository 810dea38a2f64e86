"""Generic HTTP concerns. Knows no orders, no stores and no settings; never imports ``gateway``."""
