/*
summary  = "x"
group    = "sessions"
risk     = "read"
example  = "blocked"
*/
SELECT 1
