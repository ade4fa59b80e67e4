"""What firstline needs from the world, and the guarantees it relies on."""
