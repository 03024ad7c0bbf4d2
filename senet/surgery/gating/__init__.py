"""Gates of any network: found, listened to, taken out, frozen to constants and absorbed by layers beside them."""
