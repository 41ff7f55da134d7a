module gotap.test/echo

go 1.19
