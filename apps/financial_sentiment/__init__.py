"""Financial sentiment: a text is good news, bad news or neither."""
