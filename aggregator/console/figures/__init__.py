"""What the pages and their JSON twins show, worked out from what the store holds. One file a subject; never HTML."""
