module gotap.test/torture

go 1.18
