module gotap.test/orders

go 1.18
