module gotap.test/resting

go 1.18
