module gotap.test/errs

go 1.19
