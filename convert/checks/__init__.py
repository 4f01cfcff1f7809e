"""What a checkpoint holds, whether it is what its manifest says, and whether it is the same as another."""
