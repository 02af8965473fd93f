"""How one agent LEARNS. numpy; torch in `torch_network` only."""
