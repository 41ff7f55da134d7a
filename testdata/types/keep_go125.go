//go:build go1.25

package main

import (
	"context"
	"net/http"
	"os"
)

func init() {
	keep = append(keep, &os.Root{}, os.OpenRoot, os.CopyFS, context.WithCancelCause, context.AfterFunc, context.Cause,
		http.NewResponseController(nil))
}
