"""What must hold of the fork beyond one forward of one prompt, and is as Hugging Face has it."""
