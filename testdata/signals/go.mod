module gotap.test/signals

go 1.19
