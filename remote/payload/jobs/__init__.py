"""Jobs on the box: who runs them, waits in line for the GPU, and tells what became of them."""
