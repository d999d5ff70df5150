"""What the data report is put together of. Standard library only, but for tokenizers."""
