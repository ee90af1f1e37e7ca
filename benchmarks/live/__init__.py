"""The live path, measured from outside: a programme goes in over a network, a viewer reads what comes out."""
