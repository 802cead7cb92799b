"""Words of the domain as types: keys, limits, settings. Pure; everything above may use it."""
