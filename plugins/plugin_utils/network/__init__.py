"""Who talks to whom: sites outside the fleet, listening endpoints, flows between hosts and the firewall's rules for them."""
