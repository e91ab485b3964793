"""The last step of the loop: a controller moves candidates towards promotion, or back, by what is known of them."""
