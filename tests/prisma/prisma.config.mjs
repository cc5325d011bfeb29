// Lets Prisma's engine speak to PostgreSQL through node-postgres: its native engine comes from no package registry.
import { PrismaPg } from '@prisma/adapter-pg'
import pg from 'pg'

// The adapter can't read PostgreSQL's type `name`, in which the engine asks for the schemas: as text it can.
const NAME = 19
const TEXT = 25
const described = pg.Query.prototype.handleRowDescription
pg.Query.prototype.handleRowDescription = function (message) {
  for (const field of message.fields) if (field.dataTypeID === NAME) field.dataTypeID = TEXT
  return described.call(this, message)
}

// An idle connection keeps the program from its end.
const connection = { connectionString: process.env.DATABASE_URL, idleTimeoutMillis: 100 }

export default {
  experimental: { adapter: true },
  engine: 'js',
  schema: 'prisma/schema.prisma',
  adapter: async () => new PrismaPg(connection),
}
