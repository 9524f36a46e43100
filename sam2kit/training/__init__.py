"""How to teach it: scenes, simulated users, losses, the loop, the measuring."""
